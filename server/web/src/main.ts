import './style.css';
import { element } from './dom';
import { isRoomId } from '@danmu/viewer';
import { RoomPage } from './room-page';
import { RoomsPage } from './rooms-page';
import { takeIdentity } from './token';

function open(root: HTMLElement): void {
  const identity = takeIdentity();
  const id = /^\/rooms\/([^/]+)\/?$/.exec(location.pathname)?.[1];
  if (id === undefined) {
    void new RoomsPage(root).keepFresh();
  } else if (isRoomId(id)) {
    new RoomPage(root, id, identity).connect();
  } else {
    root.replaceChildren(element('main', { class: 'lobby' },
      element('h1', { text: 'No such room' }),
      element('p', { text: 'The name of a room has only small letters, digits and hyphens.' }),
      element('a', { text: 'See the rooms', attributes: { href: '/' } })));
  }
}

const root = document.getElementById('page');
if (root) open(root);
// A fresh token pasted after the address changes only the fragment: start again with it.
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=')) location.reload();
});
