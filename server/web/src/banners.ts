import { element } from './dom';
import type { Gift, Notice } from './protocol';

const MOST_GIFTS = 4;
const GIFT_MS = 7_000;
const NOTICE_MS = 15_000;

/** What is more than talk: gifts as cards at the left of the picture, notices as a bar at its top. */
export class Banners {
  #hideNotice: ReturnType<typeof setTimeout> | undefined;
  readonly #gifts: HTMLElement;
  readonly #notice: HTMLElement;

  constructor(stage: HTMLElement) {
    this.#gifts = element('div', { class: 'gifts', test: 'gifts' });
    this.#notice = element('div', { class: 'notice', test: 'notice', attributes: { role: 'status' } });
    this.#notice.hidden = true;
    stage.append(this.#gifts);
    // Above the danmu, which make room for it: a quiet room's messages all fly in the top lane.
    stage.prepend(this.#notice);
  }

  showGift(gift: Gift): void {
    const card = drawGift(gift);
    card.dataset['user'] = gift.user ?? '';
    this.#gifts.append(card);
    while (this.#gifts.childElementCount > MOST_GIFTS) this.#gifts.firstElementChild?.remove();
    setTimeout(() => card.remove(), GIFT_MS);
  }

  showNotice(notice: Notice): void {
    clearTimeout(this.#hideNotice);
    this.#notice.textContent = notice.text;
    this.#notice.dataset['id'] = notice.id;
    this.#notice.hidden = false;
    this.#hideNotice = setTimeout(() => this.#clearNotice(), NOTICE_MS);
  }

  remove(id: string): void {
    for (const card of this.#cards()) if (card.dataset['id'] === id) card.remove();
    if (this.#notice.dataset['id'] === id) this.#clearNotice();
  }

  removeUser(user: string): void {
    for (const card of this.#cards()) if (card.dataset['user'] === user) card.remove();
  }

  clear(): void {
    this.#gifts.replaceChildren();
    this.#clearNotice();
  }

  #cards(): HTMLElement[] {
    return [...this.#gifts.children].filter((card) => card instanceof HTMLElement);
  }

  #clearNotice(): void {
    this.#notice.hidden = true;
    this.#notice.textContent = '';
  }
}

function drawGift(gift: Gift): HTMLElement {
  const who = gift.name ?? gift.user ?? 'Somebody';
  const words = element('div', { class: 'gift-words' },
    element('strong', { text: who }),
    element('span', { text: gift.text ? `${gift.gift} · ${gift.text}` : `sent a ${gift.gift}` }));
  const card = element('div', { class: 'gift', test: 'gift' },
    element('span', { class: 'gift-icon', attributes: { 'aria-hidden': 'true' } }), words);
  if (gift.count > 1) card.append(element('span', { class: 'gift-count', text: `× ${gift.count}` }));
  card.dataset['id'] = gift.id;
  return card;
}
