/** The app of the documentation's first page: `run.mjs --first APP` says where it lies. */
declare module 'first-page' {
  import type { ReactElement } from 'react';

  export default function App(): ReactElement;
}
