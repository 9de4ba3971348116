import { element } from './dom';
import type { Action, Chat, Gift, Notice, Super } from '@danmu/viewer';
import type { Marks } from './stage';

const MOST_LINES = 100;

/** What was said, as a list beside the picture: the last hundred lines. */
export class Log {
  readonly #list: HTMLElement;

  /** @param onModerate does something about a line; absent for who may not. */
  constructor(list: HTMLElement, private readonly onModerate?: (action: Action) => void) {
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
    const moderate = this.onModerate;
    if (moderate) line.append(drawActions(chat, moderate));
    this.#append(line, chat.id, chat.user);
  }

  paid(said: Super): void {
    const who = said.name ?? said.user ?? 'Somebody';
    const price = said.price === undefined ? '' : ` (${said.price})`;
    this.#append(element('li', { class: 'super-line', test: 'super-line', text: `${who}${price}: ${said.text}` }), said.id, said.user);
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

const MUTE_SECONDS = 600;

function drawActions(chat: Chat, moderate: (action: Action) => void): HTMLElement {
  const button = (text: string, test: string, action: Action): HTMLElement => {
    const node = element('button', { text, test, attributes: { type: 'button' } });
    node.addEventListener('click', () => moderate(action));
    return node;
  };
  const actions = element('span', { class: 'actions', test: 'actions' },
    button('Delete', 'delete', { do: 'remove', ids: [chat.id] }));
  if (chat.user !== undefined && chat.role !== 'moderator' && chat.role !== 'publisher') {
    actions.append(
      button('Mute 10 min', 'mute', { do: 'mute', user: chat.user, seconds: MUTE_SECONDS }),
      button('Shadow', 'shadow', { do: 'shadow', user: chat.user }));
  }
  return actions;
}
