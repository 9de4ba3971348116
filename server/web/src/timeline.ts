import { element } from './dom';
import type { Clock } from '@danmu/viewer';

/** The page has no video of its own: its timeline is so long. */
const LENGTH_S = 2 * 60 * 60;
const DRAW_MS = 500;

/** Where a viewer is in a replay: runs by itself, stands still, and is moved. */
export class Timeline {
  readonly bar: HTMLElement;
  readonly #slider: HTMLInputElement;
  readonly #told: HTMLElement;
  readonly #button: HTMLButtonElement;
  #at = 0;
  /** Since when it runs from `#at`; `undefined` while it stands still. */
  #since: number | undefined;

  constructor(private readonly clock: Clock) {
    this.#slider = element('input', {
      test: 'seek', attributes: { type: 'range', min: '0', max: String(LENGTH_S), step: '1', value: '0', 'aria-label': 'Position' },
    });
    this.#told = element('span', { class: 'position', test: 'position', text: '0:00' });
    this.#button = element('button', { class: 'play', test: 'play', text: 'Pause', attributes: { type: 'button' } });
    this.bar = element('div', { class: 'timeline', test: 'timeline' }, this.#button, this.#slider, this.#told);
    this.#slider.addEventListener('input', () => this.#seek(Number(this.#slider.value) * 1000));
    this.#button.addEventListener('click', () => this.#toggle());
    this.#since = clock.now();
    this.#draw();
  }

  /** In milliseconds. */
  position(): number {
    const run = this.#since === undefined ? 0 : this.clock.now() - this.#since;
    return Math.min(LENGTH_S * 1000, Math.floor(this.#at + run));
  }

  #seek(at: number): void {
    this.#at = at;
    if (this.#since !== undefined) this.#since = this.clock.now();
    this.#tell();
  }

  #toggle(): void {
    this.#at = this.position();
    this.#since = this.#since === undefined ? this.clock.now() : undefined;
    this.#button.textContent = this.#since === undefined ? 'Play' : 'Pause';
  }

  #draw(): void {
    this.#tell();
    this.clock.after(DRAW_MS, () => this.#draw());
  }

  #tell(): void {
    const seconds = Math.floor(this.position() / 1000);
    // Not while it is being dragged: that is the viewer's word.
    if (!this.#slider.matches(':active')) this.#slider.value = String(seconds);
    this.#told.textContent = positionWords(seconds);
  }
}

export function positionWords(seconds: number): string {
  const two = (number: number): string => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
