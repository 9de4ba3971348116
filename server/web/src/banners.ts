import { element } from './dom';
import type { Gift, Notice, Super } from '@danmu/viewer';

const MOST_GIFTS = 4;
const MOST_PINNED = 3;
const GIFT_MS = 7_000;
const NOTICE_MS = 15_000;

/**
 * What is more than talk: gifts as cards at the left of the picture, notices as a bar at its top, and under
 * that what is pinned.
 */
export class Banners {
  #hideNotice: ReturnType<typeof setTimeout> | undefined;
  readonly #gifts: HTMLElement;
  readonly #pinned: HTMLElement;
  readonly #ends = new WeakMap<Element, ReturnType<typeof setTimeout>>();
  readonly #notice: HTMLElement;

  constructor(stage: HTMLElement) {
    this.#gifts = element('div', { class: 'gifts', test: 'gifts' });
    this.#notice = element('div', { class: 'notice', test: 'notice', attributes: { role: 'status' } });
    this.#notice.hidden = true;
    this.#pinned = element('div', { class: 'pinned', test: 'pinned' });
    stage.append(this.#gifts);
    stage.prepend(this.#pinned);
    // Above the danmu, which make room for it: a quiet room's messages all fly in the top lane.
    stage.prepend(this.#notice);
  }

  showGift(gift: Gift): void {
    const before = gift.combo === undefined ? undefined : this.#cards()
      .find((card) => card.dataset['user'] === gift.user && card.dataset['gift'] === gift.gift);
    const card = drawGift(gift);
    card.dataset['user'] = gift.user ?? '';
    card.dataset['gift'] = gift.gift;
    if (before) {
      // The same card with a higher count; it does not come flying in again.
      card.classList.add('again');
      clearTimeout(this.#ends.get(before));
      before.replaceWith(card);
    } else {
      this.#gifts.append(card);
    }
    while (this.#gifts.childElementCount > MOST_GIFTS) this.#gifts.firstElementChild?.remove();
    this.#ends.set(card, setTimeout(() => card.remove(), GIFT_MS));
  }

  /** Pins what was paid for as long as it holds; what is pinned already stays. */
  showSuper(said: Super): void {
    if (said.seconds === 0 || this.#pins().some((card) => card.dataset['id'] === said.id)) return;
    const card = element('div', { class: 'super', test: 'super' },
      element('strong', { text: said.name ?? said.user ?? 'Somebody' }),
      ...(said.price === undefined ? [] : [element('span', { class: 'price', text: said.price })]),
      element('p', { text: said.text }));
    card.dataset['id'] = said.id;
    card.dataset['user'] = said.user ?? '';
    this.#pinned.append(card);
    while (this.#pinned.childElementCount > MOST_PINNED) this.#pinned.firstElementChild?.remove();
    setTimeout(() => card.remove(), said.seconds * 1000);
  }

  showNotice(notice: Notice): void {
    clearTimeout(this.#hideNotice);
    this.#notice.textContent = notice.text;
    this.#notice.dataset['id'] = notice.id;
    this.#notice.hidden = false;
    this.#hideNotice = setTimeout(() => this.#clearNotice(), NOTICE_MS);
  }

  remove(id: string): void {
    for (const card of [...this.#cards(), ...this.#pins()]) if (card.dataset['id'] === id) card.remove();
    if (this.#notice.dataset['id'] === id) this.#clearNotice();
  }

  removeUser(user: string): void {
    for (const card of [...this.#cards(), ...this.#pins()]) if (card.dataset['user'] === user) card.remove();
  }

  clear(): void {
    this.#gifts.replaceChildren();
    this.#pinned.replaceChildren();
    this.#clearNotice();
  }

  #cards(): HTMLElement[] {
    return [...this.#gifts.children].filter((card) => card instanceof HTMLElement);
  }

  #pins(): HTMLElement[] {
    return [...this.#pinned.children].filter((card) => card instanceof HTMLElement);
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
  const total = gift.combo ?? gift.count;
  if (total > 1) card.append(element('span', { class: 'gift-count', test: 'gift-count', text: `× ${total}` }));
  card.dataset['id'] = gift.id;
  return card;
}
