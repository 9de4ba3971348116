import { readEvents, type RoomEvent } from './protocol.ts';

export type Inflate = (bytes: ArrayBuffer) => Promise<string>;

/** More than any flush of the server; a frame that inflates further is an attack or a fault. */
const MAX_INFLATED = 4 * 1024 * 1024;

/** Whether this browser can read `danmu.v1.deflate`. */
export function canInflate(): boolean {
  try {
    return typeof DecompressionStream === 'function' && !!new DecompressionStream('deflate-raw');
  } catch {
    return false; // older browsers know the class but not the raw format
  }
}

/** Raw deflate of one whole frame to its text. */
export const inflateRaw: Inflate = async (bytes) => {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (let length = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    length += value.byteLength;
    if (length > MAX_INFLATED) {
      await reader.cancel();
      throw new RangeError('the frame inflates to more than 4 MiB');
    }
    text += decoder.decode(value, { stream: true });
  }
};

/**
 * Reads frames one after the other. Inflating is asynchronous and a short text frame must not
 * overtake the long binary one before it, so everything, the end included, goes through one chain.
 */
export class FrameReader {
  #chain: Promise<void> = Promise.resolve();

  constructor(
    private readonly inflate: Inflate,
    private readonly onEvents: (events: RoomEvent[]) => void,
    private readonly onBadFrame: (error: unknown) => void,
  ) {}

  frame(data: string | ArrayBuffer): void {
    // Inflating may start at once; only handing over waits for its turn.
    const text = typeof data === 'string' ? data : this.inflate(data);
    if (typeof text !== 'string') text.catch(() => undefined); // reported in its turn below
    this.then(async () => {
      let events: RoomEvent[];
      try {
        events = readEvents(await text);
      } catch (error) {
        this.onBadFrame(error);
        return;
      }
      this.onEvents(events);
    });
  }

  /** Runs after every frame so far has been handed over. */
  then(step: () => void | Promise<void>): void {
    this.#chain = this.#chain.then(step).catch((error: unknown) => {
      // One event that the page cannot draw must not end the stream.
      console.error(error);
    });
  }
}
