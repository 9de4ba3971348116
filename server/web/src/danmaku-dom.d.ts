/** The build of `danmaku` with the DOM engine only (2 kB less than with canvas). */
declare module 'danmaku/dist/esm/danmaku.dom.js' {
  export { default } from 'danmaku';
}
