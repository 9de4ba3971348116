/**
 * Builds elements without markup: what comes from outside only ever becomes text.
 */
interface Options {
  class?: string;
  text?: string;
  /** `data-test`: the stable name the page's tests look for. */
  test?: string;
  attributes?: Record<string, string>;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  options: Options = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  if (options.class) node.className = options.class;
  if (options.text !== undefined) node.textContent = options.text;
  if (options.test) node.dataset['test'] = options.test;
  for (const [name, value] of Object.entries(options.attributes ?? {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const numbers = new Intl.NumberFormat('en');

export function plural(count: number, one: string, many: string): string {
  return `${numbers.format(count)} ${count === 1 ? one : many}`;
}
