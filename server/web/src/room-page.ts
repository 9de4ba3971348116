import {
  DanmuViewer, RecentSet,
  type Ack, type Chat, type Clock, type ConnectionState, type Gap, type Joined, type Policy, type Refused, type Removed,
  type RoomEvent, type Stats,
} from '@danmu/viewer';
import { Banners } from './banners';
import { Composer, sentence, type Draft } from './composer';
import { Desk, isModerator } from './desk';
import { element, plural } from './dom';
import { Log } from './log';
import { playPicture } from './picture';
import { Stage, type Marks } from './stage';
import { Timeline } from './timeline';
import { forgetToken, type Identity } from './token';

/** Messages whose answer is awaited; a server that never answers must not fill the memory. */
const MOST_UNANSWERED = 20;
const SAMPLED_SHOWN_MS = 10_000;

/** The page of one room. */
export class RoomPage {
  readonly #viewers = element('span', { class: 'viewers', test: 'viewers' });
  readonly #sampled = element('span', { class: 'sampled', test: 'sampled', attributes: { title: 'The room is too busy to show every message' } });
  readonly #status = element('div', { class: 'status', test: 'status', attributes: { role: 'status' } });
  readonly #stage: Stage;
  readonly #banners: Banners;
  readonly #log: Log;
  readonly #composer: Composer;
  readonly #desk: Desk | undefined;
  readonly #timeline = new Timeline(browserClock);
  /** By `ref`: what was said, and whether it goes into a replay. */
  readonly #unanswered = new Map<string, Draft & { kept: boolean }>();
  readonly #own = new RecentSet(200);
  readonly #onlyYou = new RecentSet(200);
  #viewer: DanmuViewer | undefined;
  #hideSampled: ReturnType<typeof setTimeout> | undefined;

  constructor(root: HTMLElement, private readonly room: string, private identity: Identity | undefined) {
    const stillness = matchMedia('(prefers-reduced-motion: reduce)');
    const picture = element('canvas', { class: 'picture', attributes: { 'aria-hidden': 'true' } });
    const danmu = element('div', { class: 'danmu-layer', test: 'stage', attributes: { 'aria-hidden': 'true' } });
    const screen = element('section', { class: 'screen', attributes: { 'aria-label': 'The stream' } }, picture, danmu);
    const list = element('ol', { class: 'log', test: 'log', attributes: { tabindex: '0', 'aria-label': 'Messages' } });
    this.#composer = new Composer(identity?.role ?? 'viewer', (draft) => this.#say(draft));
    this.#desk = isModerator(identity?.role)
      ? new Desk((action) => this.#viewer?.moderate(action))
      : undefined;
    const desk = this.#desk ? [this.#desk.panel] : [];
    root.replaceChildren(
      element('header', {},
        element('a', { class: 'back', text: '‹ Rooms', attributes: { href: '/' } }),
        element('h1', { text: room, test: 'room' }), this.#viewers, this.#sampled),
      element('main', { class: 'room' },
        element('div', { class: 'watch' }, screen, this.#timeline.bar, this.#status, this.#composer.form, ...desk),
        element('aside', { attributes: { 'aria-label': 'Chat' } }, element('h2', { text: 'Chat' }), list)));
    document.title = `${room} · Danmu`;
    playPicture(picture, stillness);
    this.#stage = new Stage(danmu, stillness);
    this.#banners = new Banners(screen);
    this.#log = new Log(list, this.#desk && ((action) => this.#desk?.act(action)));
    this.#timeline.bar.hidden = true;
  }

  connect(): void {
    this.#viewer?.stop();
    const viewer = new DanmuViewer({
      url: location.origin, room: this.room, token: this.identity?.token, position: () => this.#timeline.position(),
    });
    viewer.on('joined', (joined, lost) => this.#joined(joined, lost));
    viewer.on('history', (history) => { for (const chat of history) this.#log.chat(chat, this.#marks(chat)); });
    viewer.on('event', (event) => this.#show(event));
    viewer.on('state', (state) => this.#state(state));
    viewer.on('replay', (replay) => { this.#timeline.bar.hidden = !replay; });
    viewer.on('trouble', (words) => { this.#sampled.textContent = words ? sentence(words) : ''; });
    this.#viewer = viewer.start();
  }

  #say(draft: Draft): boolean {
    const kept = this.#viewer?.at() !== undefined;
    const ref = this.#viewer?.say(draft);
    if (ref === undefined) return false;
    this.#unanswered.set(ref, { ...draft, kept });
    const [oldest] = this.#unanswered.keys();
    if (oldest !== undefined && this.#unanswered.size > MOST_UNANSWERED) this.#unanswered.delete(oldest);
    return true;
  }

  #joined(joined: Omit<Joined, 'history'>, lost: boolean): void {
    if (lost) this.#log.remark('Some gifts or notices may be missing here.');
    this.#showViewers(joined.viewers);
    this.#policy(joined);
    this.#desk?.forgetHeld();
    for (const said of joined.pinned) this.#banners.showSuper(said);
  }

  #policy(policy: Policy): void {
    this.#composer.setPolicy(policy, this.identity !== undefined);
    this.#desk?.setSlowMode(policy.slowModeSeconds);
  }

  #show(event: RoomEvent): void {
    switch (event.ev) {
      case 'chat': return this.#chat(event);
      case 'gift':
        this.#banners.showGift(event);
        return this.#log.gift(event);
      case 'notice':
        this.#banners.showNotice(event);
        return this.#log.notice(event);
      case 'super':
        this.#banners.showSuper(event);
        return this.#log.paid(event);
      case 'enter': return this.#log.remark(`${event.name ?? event.user ?? 'Somebody'} came in.`);
      case 'held': return this.#desk?.hold(event.chat);
      case 'settled': return this.#desk?.settle(event.id);
      case 'done': return this.#desk?.done(event.ref);
      case 'mode': return this.#policy(event);
      case 'ack': return this.#ack(event);
      case 'refused': return this.#refused(event);
      case 'removed': return this.#removed(event);
      case 'stats': return this.#stats(event);
      case 'gap': return this.#gap(event);
    }
  }

  #marks(chat: Chat): Marks {
    const mine = chat.user !== undefined && chat.user === this.identity?.user;
    return { own: mine || this.#own.has(chat.id), onlyYou: this.#onlyYou.has(chat.id) };
  }

  #chat(chat: Chat): void {
    const marks = this.#marks(chat);
    this.#stage.show(chat, marks);
    this.#log.chat(chat, marks);
  }

  #ack(ack: Ack): void {
    const said = ack.ref === undefined ? undefined : this.#unanswered.get(ack.ref);
    if (ack.ref) this.#unanswered.delete(ack.ref);
    this.#own.add(ack.id);
    if (ack.held) return this.#composer.hint('A moderator looks at your message first.');
    if (!ack.shown) this.#onlyYou.add(ack.id);
    // Where it is fetched, nobody sends it back.
    if (said?.kept && ack.shown && this.#viewer?.at() !== undefined) this.#showOwn(ack.id, said);
    // The message itself may have come with the room's frame already.
    this.#stage.markOwn(ack.id);
    this.#log.markOwn(ack.id);
  }

  #showOwn(id: string, { kept: _, ...draft }: Draft & { kept: boolean }): void {
    this.#viewer?.showed(id);
    const { role = 'viewer', user } = this.identity ?? {};
    this.#chat({ ev: 'chat', id, mode: 'scroll', size: 'normal', n: 1, role, ...(user ? { user } : {}), ...draft });
  }

  #refused(refused: Refused): void {
    if (this.#desk?.refuse(refused)) return;
    const text = refused.ref === undefined ? undefined : this.#unanswered.get(refused.ref)?.text;
    if (refused.ref !== undefined) this.#unanswered.delete(refused.ref);
    this.#composer.refuse(refused, text);
  }

  #removed(removed: Removed): void {
    for (const place of [this.#stage, this.#banners, this.#log]) {
      if (removed.all) place.clear();
      if (removed.user !== undefined) place.removeUser(removed.user);
      for (const id of removed.ids) place.remove(id);
    }
    if (removed.all) this.#log.remark('A moderator cleared the chat.');
  }

  #stats(stats: Stats): void {
    this.#showViewers(stats.viewers);
    if (stats.sampled === 0) return;
    clearTimeout(this.#hideSampled);
    this.#sampled.textContent = `${plural(stats.sampled, 'message', 'messages')} left out`;
    this.#hideSampled = setTimeout(() => { this.#sampled.textContent = ''; }, SAMPLED_SHOWN_MS);
  }

  #gap(gap: Gap): void {
    const what: [string, string] = gap.lane === 'priority' ? ['gift or notice', 'gifts or notices'] : ['message', 'messages'];
    this.#log.remark(gap.dropped
      ? `${plural(gap.dropped, ...what)} did not reach you.`
      : `Some ${what[1]} did not reach you.`);
  }

  #showViewers(viewers: number): void {
    this.#viewers.textContent = plural(viewers, 'viewer', 'viewers');
  }

  #state(state: ConnectionState): void {
    this.#composer.setConnected(state.kind === 'open');
    this.#status.dataset['state'] = state.kind;
    this.#status.replaceChildren();
    if (state.kind === 'connecting') this.#status.textContent = 'Connecting…';
    if (state.kind === 'waiting') this.#status.textContent = `${sentence(state.words)} Reconnecting…`;
    if (state.kind === 'stopped') this.#stopped(state.words, state.newToken);
    if ((state.kind === 'waiting' || state.kind === 'stopped') && this.#unanswered.size > 0) {
      this.#unanswered.clear();
      this.#composer.hint('The connection broke before the answer came: your last message may not have been shown.');
    }
  }

  #stopped(words: string, newToken: boolean): void {
    this.#status.append(element('strong', { text: 'Disconnected: ' }), sentence(words));
    if (!newToken) return;
    this.#status.append(' Sign in again with a fresh link, or ');
    const anonymous = element('button', { text: 'watch without signing in', test: 'watch-anonymously', attributes: { type: 'button' } });
    anonymous.addEventListener('click', () => {
      forgetToken();
      location.reload();
    });
    this.#status.append(anonymous, '.');
  }
}

const browserClock: Clock = {
  now: () => performance.now(),
  after: (ms: number, step: () => void) => {
    const timer = setTimeout(step, ms);
    return () => clearTimeout(timer);
  },
};
