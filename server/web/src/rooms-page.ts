import { element, plural } from './dom';
import { isRoomId } from '@danmu/viewer';

interface RoomEntry { id: string; viewers: number }

const REFRESH_MS = 10_000;
const DEADLINE_MS = 8_000;

/** The list of rooms. */
export class RoomsPage {
  readonly #list = element('ul', { class: 'rooms', test: 'rooms' });
  readonly #words = element('p', { class: 'quiet', test: 'rooms-words', text: 'Looking for rooms…', attributes: { role: 'status' } });

  constructor(root: HTMLElement) {
    document.title = 'Rooms · Danmu';
    root.replaceChildren(
      element('header', { class: 'front' }, element('h1', { text: 'Danmu' }), element('span', { class: 'quiet', text: 'comments that fly over the picture' })),
      element('main', { class: 'lobby' }, element('h2', { text: 'Rooms' }), this.#words, this.#list));
  }

  async keepFresh(): Promise<void> {
    for (;;) {
      if (!document.hidden) await this.#refresh();
      await new Promise((wake) => setTimeout(wake, REFRESH_MS));
    }
  }

  async #refresh(): Promise<void> {
    try {
      const answer = await fetch('/rooms', { headers: { accept: 'application/json' }, signal: AbortSignal.timeout(DEADLINE_MS) });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      this.#show(readRooms(await answer.json()));
    } catch {
      this.#words.textContent = 'The rooms could not be read just now; trying again in a moment.';
    }
  }

  #show(rooms: RoomEntry[]): void {
    this.#words.textContent = rooms.length > 0 ? '' : 'There is no room yet.';
    const focused = document.activeElement?.getAttribute('href');
    this.#list.replaceChildren(...rooms.map(drawRoom));
    for (const link of this.#list.querySelectorAll('a')) if (link.getAttribute('href') === focused) link.focus();
  }
}

/** Reads the answer of `GET /rooms`; what is no room is left out. The busiest come first. */
export function readRooms(answer: unknown): RoomEntry[] {
  if (!Array.isArray(answer)) throw new TypeError('the list of rooms is not a list');
  return answer
    .map((item: unknown) => Object(item) as Record<string, unknown>)
    .filter((room): room is { id: string; viewers?: unknown } => isRoomId(room['id']))
    .map((room) => ({ id: room.id, viewers: typeof room.viewers === 'number' ? room.viewers : 0 }))
    .sort((a, b) => b.viewers - a.viewers || a.id.localeCompare(b.id));
}

function drawRoom(room: RoomEntry): HTMLElement {
  // Built from the id, which is checked: an address from the answer could be `javascript:`.
  const link = element('a', { attributes: { href: `/rooms/${room.id}` } },
    element('strong', { text: room.id }), element('span', { class: 'quiet', text: plural(room.viewers, 'viewer', 'viewers') }));
  return element('li', { test: 'room-entry' }, link);
}
