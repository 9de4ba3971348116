import { element } from './dom';
import type { Chat, Gift, Notice } from './protocol';
import type { Marks } from './stage';

const MOST_LINES = 100;

/** What was said, as a list beside the picture: the last hundred lines. */
export class Log {
  readonly #list: HTMLElement;

  constructor(list: HTMLElement) {
    this.#list = list;
  }

  chat(chat: Chat, marks: Marks): void {
    const line = element('li', { class: marks.own ? 'own' : '', test: 'line' });
    if (chat.role !== 'viewer') line.append(element('span', { class: `badge ${chat.role}`, text: chat.role, test: 'badge' }));
    line.append(element('b', { class: 'name', text: chat.name ?? chat.user ?? 'Guest' }));
    const words = element('span', { class: 'words', text: chat.text, test: 'words' });
    if (chat.color) words.style.color = chat.color;
    line.append(words);
    if (chat.n > 1) line.append(element('span', { class: 'times', text: `× ${chat.n}` }));
    if (marks.onlyYou) line.append(element('em', { text: 'only you see this', test: 'only-you' }));
    this.#append(line, chat.id, chat.user);
  }

  gift(gift: Gift): void {
    const who = gift.name ?? gift.user ?? 'Somebody';
    const times = gift.count > 1 ? ` × ${gift.count}` : '';
    const text = `${who} sent ${gift.gift}${times}`;
    this.#append(element('li', { class: 'gift-line', test: 'gift-line', text }), gift.id, gift.user);
  }

  notice(notice: Notice): void {
    this.#append(element('li', { class: 'notice-line', text: notice.text }), notice.id);
  }

  /** A quiet word of the page itself. */
  remark(text: string): void {
    this.#append(element('li', { class: 'remark', test: 'remark', text }));
  }

  markOwn(id: string): void {
    for (const line of this.#lines()) if (line.dataset['id'] === id) line.classList.add('own');
  }

  remove(id: string): void {
    for (const line of this.#lines()) if (line.dataset['id'] === id) line.remove();
  }

  removeUser(user: string): void {
    for (const line of this.#lines()) if (line.dataset['user'] === user) line.remove();
  }

  clear(): void {
    this.#list.replaceChildren();
  }

  #lines(): HTMLElement[] {
    return [...this.#list.children].filter((line) => line instanceof HTMLElement);
  }

  #append(line: HTMLElement, id?: string, user?: string): void {
    if (id) line.dataset['id'] = id;
    if (user) line.dataset['user'] = user;
    const list = this.#list;
    // Follow the newest line, unless somebody scrolled up to read.
    const following = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(line);
    while (list.childElementCount > MOST_LINES) list.firstElementChild?.remove();
    if (following) list.scrollTop = list.scrollHeight;
  }
}
