import Danmaku from 'danmaku/dist/esm/danmaku.dom.js';
import { element } from './dom';
import type { Chat } from '@danmu/viewer';

/** More than this at once is read by nobody (the cap of DanmakuFlameMaster, too). */
const MOST_VISIBLE = 80;
/** Seconds of one flight, on any width; standing messages stay as long. */
const FLIGHT_SECONDS = 8;
/** With reduced motion: still lines in the corner of the picture, newest last. */
const STILL_LINES = 5;
const LINE_HEIGHT = 36;
/** About the width of a message: so many fit beside each other in a lane and can still be read. */
const MESSAGE_WIDTH = 220;

export interface Marks {
  /** Said by this viewer. */
  own: boolean;
  /** Left out of the room's sample: only this viewer sees it. */
  onlyYou: boolean;
}

interface Flying { node: HTMLElement; user: string | undefined; until: number }

/** The danmu over the picture. */
export class Stage {
  readonly #flying = new Map<string, Flying>();
  #engine: Danmaku | undefined;

  constructor(private readonly container: HTMLElement, stillness: MediaQueryList) {
    const follow = (): void => this.#setMotion(!stillness.matches);
    stillness.addEventListener('change', follow);
    follow();
    new ResizeObserver(() => this.#fit()).observe(container);
  }

  show(chat: Chat, marks: Marks): void {
    // A hidden page draws no frames: what came meanwhile would all start at once afterwards.
    if (document.hidden) return;
    this.#forgetLanded();
    if (this.#engine && !marks.own && this.#flying.size >= this.#capacity()) return;
    const node = drawMessage(chat, marks);
    const until = performance.now() + (FLIGHT_SECONDS + 1) * 1000;
    this.#flying.set(chat.id, { node, user: chat.user, until });
    if (this.#engine) {
      this.#engine.emit({ mode: chat.mode === 'scroll' ? 'rtl' : chat.mode, render: () => node });
    } else {
      this.container.append(node);
      while (this.container.childElementCount > STILL_LINES) this.container.firstElementChild?.remove();
    }
  }

  markOwn(id: string): void {
    this.#flying.get(id)?.node.classList.add('own');
  }

  remove(id: string): void {
    const flying = this.#flying.get(id);
    if (!flying) return;
    // The engine takes its wrapper away itself, at the end of the flight; until then it is empty.
    flying.node.replaceChildren();
    flying.node.remove();
    this.#flying.delete(id);
  }

  removeUser(user: string): void {
    for (const [id, flying] of this.#flying) if (flying.user === user) this.remove(id);
  }

  clear(): void {
    for (const id of this.#flying.keys()) this.remove(id);
  }

  #setMotion(moving: boolean): void {
    this.#engine?.destroy();
    this.#engine = undefined;
    this.#flying.clear();
    this.container.replaceChildren();
    this.container.classList.toggle('still', !moving);
    if (moving) {
      this.#engine = new Danmaku({ container: this.container, engine: 'dom' });
      this.#fit();
    }
  }

  #fit(): void {
    if (!this.#engine || this.container.offsetWidth === 0) return;
    this.#engine.resize();
    this.#engine.speed = this.container.offsetWidth / FLIGHT_SECONDS;
  }

  #capacity(): number {
    const lanes = Math.ceil(this.container.offsetHeight / LINE_HEIGHT);
    return Math.min(MOST_VISIBLE, lanes * Math.max(3, Math.round(this.container.offsetWidth / MESSAGE_WIDTH)));
  }

  #forgetLanded(): void {
    const now = performance.now();
    for (const [id, flying] of this.#flying) {
      if (this.#engine ? flying.until > now : flying.node.isConnected) break;
      this.#flying.delete(id);
    }
    if (this.#engine) forgetShown(this.#engine as unknown as EngineInside);
  }
}

/** danmaku 2.0.10 keeps every comment it was ever given; `position` is the next one to show. */
export interface EngineInside { comments: unknown[]; _: { position: number } }

/** Lets go of comments already shown, which in a live room would otherwise grow for hours. */
export function forgetShown(engine: EngineInside): void {
  const shown = engine._.position;
  if (shown < 200) return;
  engine.comments.splice(0, shown);
  engine._.position = 0;
}

function drawMessage(chat: Chat, marks: Marks): HTMLElement {
  const node = element('span', {
    class: `danmu ${chat.size}${marks.own ? ' own' : ''}${marks.onlyYou ? ' only-you' : ''}`,
    test: 'danmu',
    text: chat.text,
  });
  if (chat.color) node.style.color = chat.color;
  if (chat.n > 1) node.append(element('span', { class: 'times', text: `× ${chat.n}` }));
  return node;
}
