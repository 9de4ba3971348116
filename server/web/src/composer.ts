import { allowedStyle, COLORS, type AllowedStyle } from './allowed-style';
import { element } from './dom';
import type { Placing, Policy, Refused, Role, Size, Style } from '@danmu/viewer';

/** What to say: the text and only what differs from the plain style. */
export interface Draft extends Partial<Style> { text: string }

const MODE_NAMES: Record<Placing, string> = { scroll: 'Fly', top: 'Top', bottom: 'Bottom' };
const SIZE_NAMES: Record<Size, string> = { small: 'Small', normal: 'Normal', large: 'Large' };

/** Where a viewer writes: the line, its style, how long it may be, and why not just now. */
export class Composer {
  readonly form: HTMLFormElement;
  readonly #input: HTMLInputElement;
  readonly #send: HTMLButtonElement;
  readonly #counter: HTMLElement;
  readonly #words: HTMLElement;
  readonly #countdown: HTMLElement;
  #maxLength = 0;
  #connected = false;
  #mayWrite = true;
  #blockedUntil = 0;
  #ticking: ReturnType<typeof setInterval> | undefined;

  /** @param onSay sends a draft; false when it could not be sent. */
  constructor(role: Role, private readonly onSay: (draft: Draft) => boolean) {
    this.#input = element('input', {
      test: 'input',
      attributes: {
        type: 'text', autocomplete: 'off', enterkeyhint: 'send', 'aria-label': 'Your message',
        'aria-describedby': 'composer-words', placeholder: 'Say something…',
      },
    });
    this.#send = element('button', { class: 'send', text: 'Send', test: 'send', attributes: { type: 'submit' } });
    this.#counter = element('span', { class: 'counter', test: 'counter', attributes: { 'aria-hidden': 'true' } });
    this.#words = element('span', { test: 'refusal', attributes: { id: 'composer-words', role: 'status', 'aria-live': 'polite' } });
    // Apart from the words, so that a screen reader says the refusal once and not every second.
    this.#countdown = element('span', { class: 'countdown', test: 'countdown', attributes: { 'aria-hidden': 'true' } });
    this.form = element('form', { class: 'composer', test: 'composer' },
      element('div', { class: 'line' }, element('span', { class: 'field' }, this.#input, this.#counter), this.#send),
      element('p', { class: 'composer-words' }, this.#words, ' ', this.#countdown),
      ...drawChoosers(allowedStyle(role)));
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener('input', () => this.#refresh());
    this.#refresh();
  }

  setConnected(connected: boolean): void {
    this.#connected = connected;
    this.#refresh();
  }

  setPolicy(policy: Policy, signedIn: boolean): void {
    this.#maxLength = policy.maxLength;
    const couldWrite = this.#mayWrite;
    this.#mayWrite = signedIn || policy.anonymous === 'speak';
    this.#input.disabled = !this.#mayWrite;
    this.#input.placeholder = this.#mayWrite ? 'Say something…' : 'Only signed-in viewers may write here';
    if (!this.#mayWrite) {
      this.#tell(policy.anonymous === 'deny'
        ? 'This room is for signed-in viewers only.'
        : 'You are watching without signing in. In this room only signed-in viewers may write.');
    } else if (!couldWrite) {
      this.#tell('');
    }
    if (this.#mayWrite && policy.slowModeSeconds > 0) {
      this.#input.placeholder = `Slow mode: one message every ${policy.slowModeSeconds} s`;
    }
    this.#refresh();
  }

  /** Shows why a message was not taken, gives its text back, and counts down to the next try. */
  refuse(refused: Refused, text: string | undefined): void {
    if (text !== undefined && this.#input.value === '') this.#input.value = text;
    this.#tell(sentence(refused.text), 'refused');
    if (refused.retryMs) {
      this.#blockedUntil = Date.now() + refused.retryMs;
      this.#ticking = setInterval(() => this.#tick(), 250);
      this.#tick();
    }
    this.#refresh();
  }

  /** Says something that is no refusal, for example that the fate of a message is unknown. */
  hint(words: string): void {
    this.#tell(words);
  }

  #submit(): void {
    const text = this.#input.value.trim();
    if (text === '' || !this.#canSend()) return;
    if (!this.onSay({ text, ...this.#style() })) {
      this.#tell('Not sent: there is no connection just now.');
      return;
    }
    this.#tell('');
    this.#input.value = '';
    this.#input.focus();
    this.#refresh();
  }

  #style(): Partial<Style> {
    const chosen = new FormData(this.form);
    const [color, mode, size] = [chosen.get('color'), chosen.get('mode'), chosen.get('size')];
    return {
      ...(color ? { color: String(color) } : {}),
      ...(mode && mode !== 'scroll' ? { mode: mode as Placing } : {}),
      ...(size && size !== 'normal' ? { size: size as Size } : {}),
    };
  }

  #canSend(): boolean {
    return this.#connected && this.#mayWrite && Date.now() >= this.#blockedUntil && !this.#tooLong();
  }

  #tooLong(): boolean {
    return this.#maxLength > 0 && this.#length() > this.#maxLength;
  }

  /** In characters as the server counts them (code points, not UTF-16 units). */
  #length(): number {
    return [...this.#input.value.trim()].length;
  }

  #refresh(): void {
    this.#send.disabled = !this.#canSend();
    this.#counter.textContent = this.#maxLength > 0 ? `${this.#length()}/${this.#maxLength}` : '';
    this.#counter.classList.toggle('over', this.#tooLong());
    this.#input.setAttribute('aria-invalid', String(this.#tooLong()));
  }

  #tell(words: string, kind = ''): void {
    clearInterval(this.#ticking);
    this.#blockedUntil = 0;
    this.#countdown.textContent = '';
    this.#words.textContent = words;
    this.#words.className = kind;
  }

  #tick(): void {
    const left = Math.ceil((this.#blockedUntil - Date.now()) / 1000);
    if (left <= 0) this.#tell('');
    else this.#countdown.textContent = `Try again in ${left < 120 ? `${left} s` : `${Math.ceil(left / 60)} min`}.`;
    this.#refresh();
  }
}

/** A reason of the server as a sentence of the page. */
export function sentence(words: string): string {
  const start = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?…]$/.test(start) ? start : `${start}.`;
}

function drawChoosers(allowed: AllowedStyle): HTMLElement[] {
  const choosers: HTMLElement[] = [];
  if (allowed.colors) choosers.push(chooser('color', 'Colour', COLORS));
  if (allowed.modes.length > 1) choosers.push(chooser('mode', 'Mode', allowed.modes.map((mode) => [mode, MODE_NAMES[mode]] as const)));
  if (allowed.sizes.length > 1) choosers.push(chooser('size', 'Size', allowed.sizes.map((size) => [size, SIZE_NAMES[size]] as const), 'normal'));
  return choosers.length > 0 ? [element('div', { class: 'choosers' }, ...choosers)] : [];
}

function chooser(
  name: string, title: string, choices: readonly (readonly [value: string, name: string])[], chosen = choices[0]?.[0],
): HTMLElement {
  const options = choices.map(([value, label]) => {
    const radio = element('input', {
      attributes: { type: 'radio', name, value, 'aria-label': label }, test: `${name}-${value || 'default'}`,
    });
    radio.defaultChecked = value === chosen;
    const face = element('span', name === 'color' ? { class: 'swatch' } : { class: 'segment', text: label });
    if (name === 'color') face.style.backgroundColor = value || '#ffffff';
    return element('label', { attributes: { title: label } }, radio, face);
  });
  return element('fieldset', { class: `chooser ${name}`, test: `${name}s` }, element('legend', { text: title }), ...options);
}
