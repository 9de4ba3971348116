import type { Placing, Role, Size } from '@danmu/viewer';

export interface AllowedStyle { colors: boolean; modes: readonly Placing[]; sizes: readonly Size[] }

/** What the page offers. The server's gate decides; what it refuses all the same is shown in its words. */
export function allowedStyle(role: Role): AllowedStyle {
  switch (role) {
    case 'viewer': return { colors: false, modes: ['scroll'], sizes: ['normal'] };
    case 'speaker': return { colors: true, modes: ['scroll'], sizes: ['normal'] };
    case 'moderator':
    case 'publisher': return { colors: true, modes: ['scroll', 'top', 'bottom'], sizes: ['small', 'normal', 'large'] };
  }
}

/** Colours that read well over a moving picture; the empty one is the page's own white. */
export const COLORS: readonly (readonly [value: string, name: string])[] = [
  ['', 'White'], ['#ff8fa3', 'Rose'], ['#ffb86b', 'Orange'], ['#ffe27a', 'Yellow'],
  ['#8ee88b', 'Green'], ['#6fe0e8', 'Cyan'], ['#8fb4ff', 'Blue'], ['#d0a2ff', 'Violet'],
];
