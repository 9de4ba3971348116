/**
 * The "video": a generated night over the hills, so that the page needs no media file. Drawn small
 * and scaled up by CSS; 24 frames a second are plenty for slow light.
 */
const WIDTH = 480;
const HEIGHT = 270;
const FRAME_MS = 1000 / 24;

interface Spark { x: number; y: number; size: number; speed: number; phase: number }

export function playPicture(canvas: HTMLCanvasElement, stillness: MediaQueryList): void {
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext('2d', { alpha: false });
  if (!context) return; // without a picture the danmu still fly
  const sparks = Array.from({ length: 60 }, makeSpark);
  let drawnAt = -Infinity;
  const frame = (now: number): void => {
    if (now - drawnAt >= FRAME_MS) {
      drawnAt = now;
      draw(context, sparks, now / 1000);
    }
    if (!stillness.matches) requestAnimationFrame(frame);
  };
  stillness.addEventListener('change', () => requestAnimationFrame(frame));
  requestAnimationFrame(frame);
}

function makeSpark(): Spark {
  const near = Math.random();
  return {
    x: Math.random(), y: Math.random(), size: 0.4 + near * 1.3, speed: 0.004 + near * 0.012, phase: Math.random() * 7,
  };
}

function draw(context: CanvasRenderingContext2D, sparks: Spark[], seconds: number): void {
  const sky = context.createLinearGradient(0, 0, 0, HEIGHT);
  sky.addColorStop(0, '#0a1026');
  sky.addColorStop(0.55, '#1d2a55');
  sky.addColorStop(0.8, '#5a3f6e');
  sky.addColorStop(1, '#b0696b');
  context.globalCompositeOperation = 'source-over';
  context.fillStyle = sky;
  context.fillRect(0, 0, WIDTH, HEIGHT);

  context.globalCompositeOperation = 'lighter';
  const lights = [['#1fb6a6', 0.21, 0.35], ['#5a6cff', 0.14, 0.3], ['#d05ca8', 0.1, 0.5]] as const;
  lights.forEach(([color, speed, height], index) => {
    const x = WIDTH * (0.5 + 0.42 * Math.sin(seconds * speed + index * 2.1));
    const y = HEIGHT * (height + 0.1 * Math.sin(seconds * speed * 1.7 + index));
    glow(context, x, y, 150 + 30 * Math.sin(seconds * 0.3 + index), `${color}3c`);
  });
  for (const spark of sparks) {
    const y = HEIGHT * (1 - ((spark.y + seconds * spark.speed) % 1));
    const x = WIDTH * spark.x + 6 * Math.sin(seconds * 0.6 + spark.phase);
    const alpha = 0.25 + 0.25 * Math.sin(seconds * 1.3 + spark.phase);
    context.fillStyle = `rgb(255 226 178 / ${alpha.toFixed(3)})`;
    context.beginPath();
    context.arc(x, y, spark.size, 0, Math.PI * 2);
    context.fill();
  }

  context.globalCompositeOperation = 'source-over';
  hills(context, 0.70, 26, 0.006, seconds * 5, '#1c2040');
  hills(context, 0.79, 20, 0.011, seconds * 11, '#12162e');
  hills(context, 0.89, 14, 0.018, seconds * 22, '#090c1b');
}

function glow(context: CanvasRenderingContext2D, x: number, y: number, radius: number, color: string): void {
  const light = context.createRadialGradient(x, y, 0, x, y, radius);
  light.addColorStop(0, color);
  light.addColorStop(1, '#00000000');
  context.fillStyle = light;
  context.fillRect(x - radius, y - radius, radius * 2, radius * 2);
}

function hills(
  context: CanvasRenderingContext2D, level: number, swing: number, wave: number, shift: number, color: string,
): void {
  context.fillStyle = color;
  context.beginPath();
  context.moveTo(0, HEIGHT);
  for (let x = 0; x <= WIDTH; x += 6) {
    const at = (x + shift) * wave;
    context.lineTo(x, HEIGHT * level - swing * (Math.sin(at) * 0.6 + Math.sin(at * 2.3 + 1) * 0.4));
  }
  context.lineTo(WIDTH, HEIGHT);
  context.fill();
}
