import { sentence } from './composer';
import { element } from './dom';
import type { Action, Chat, Refused, Role } from '@danmu/viewer';

/** Answers awaited; a server that never answers must not fill the memory. */
const MOST_UNANSWERED = 20;
const SLOW_CHOICES: readonly (readonly [seconds: number, name: string])[] =
  [[0, 'off'], [5, '5 s'], [10, '10 s'], [30, '30 s'], [60, '1 min'], [300, '5 min']];

export function isModerator(role: Role | undefined): boolean {
  return role === 'moderator' || role === 'publisher';
}

/** Where a moderator keeps order: slow mode, clear, and what waits for a word. */
export class Desk {
  readonly panel: HTMLElement;
  readonly #slow: HTMLSelectElement;
  readonly #held: HTMLElement;
  readonly #words: HTMLElement;
  readonly #refs = new Map<string, Action>();

  /** @param send asks the server; answers the answer's `ref`, or nothing when there is no connection. */
  constructor(private readonly send: (action: Action) => string | undefined) {
    this.#slow = element('select', { test: 'slow-mode', attributes: { 'aria-label': 'Slow mode' } },
      ...SLOW_CHOICES.map(([seconds, name]) => element('option', { text: `Slow mode: ${name}`, attributes: { value: String(seconds) } })));
    this.#slow.addEventListener('change', () => this.act({ do: 'slow_mode', seconds: Number(this.#slow.value) }));
    const clear = element('button', { text: 'Clear the chat', test: 'clear', attributes: { type: 'button' } });
    clear.addEventListener('click', () => this.act({ do: 'clear' }));
    this.#held = element('ul', { class: 'held', test: 'held', attributes: { 'aria-label': 'Messages that wait' } });
    this.#words = element('p', { test: 'desk-words', attributes: { role: 'status' } });
    this.panel = element('section', { class: 'desk', test: 'desk', attributes: { 'aria-label': 'Moderation' } },
      element('div', { class: 'desk-line' }, this.#slow, clear), this.#held, this.#words);
  }

  act(action: Action): void {
    const ref = this.send(action);
    if (ref === undefined) {
      this.#tell('Not done: there is no connection just now.');
      return;
    }
    this.#refs.set(ref, action);
    const [oldest] = this.#refs.keys();
    if (oldest !== undefined && this.#refs.size > MOST_UNANSWERED) this.#refs.delete(oldest);
  }

  /** The room's slow mode, whoever set it. */
  setSlowMode(seconds: number): void {
    const choices = [...this.#slow.options];
    if (!choices.some((choice) => choice.value === String(seconds))) {
      this.#slow.append(element('option', { text: `Slow mode: ${seconds} s`, attributes: { value: String(seconds) } }));
    }
    this.#slow.value = String(seconds);
  }

  /** A message waits; told again after a reconnect. */
  hold(chat: Chat): void {
    if (this.#waiting(chat.id)) return;
    const button = (text: string, action: 'show' | 'reject'): HTMLElement => {
      const node = element('button', { text, test: action, attributes: { type: 'button' } });
      node.addEventListener('click', () => this.act({ do: action, id: chat.id }));
      return node;
    };
    const line = element('li', { test: 'held-line' },
      element('b', { class: 'name', text: chat.name ?? chat.user ?? 'Guest' }),
      element('span', { class: 'words', text: chat.text }),
      element('span', { class: 'actions' }, button('Show', 'show'), button('Reject', 'reject')));
    line.dataset['id'] = chat.id;
    this.#held.append(line);
  }

  settle(id: string): void {
    this.#waiting(id)?.remove();
  }

  /** What waited before a cut may be settled by now; what still waits is told anew. */
  forgetHeld(): void {
    this.#held.replaceChildren();
  }

  done(ref: string | undefined): void {
    if (ref !== undefined && this.#refs.delete(ref)) this.#tell('Done.');
  }

  /** Whether the refusal was an answer to this desk. */
  refuse(refused: Refused): boolean {
    const action = refused.ref === undefined ? undefined : this.#refs.get(refused.ref);
    if (refused.ref === undefined || !action) return false;
    this.#refs.delete(refused.ref);
    if (action.do === 'show' || action.do === 'reject') this.settle(action.id);
    this.#tell(`Not done: ${sentence(refused.text)}`);
    return true;
  }

  #waiting(id: string): HTMLElement | undefined {
    return [...this.#held.children].filter((line) => line instanceof HTMLElement).find((line) => line.dataset['id'] === id);
  }

  #tell(words: string): void {
    this.#words.textContent = words;
  }
}
