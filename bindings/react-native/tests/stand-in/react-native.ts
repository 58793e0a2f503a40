/**
 * What the facade and the first page ask of React Native, for tests without it: a module that tests put there, an app state
 * they change, and components that draw nothing but what is in them.
 */
import { createElement, Fragment } from 'react';
import type { ReactElement, ReactNode } from 'react';

type Listener = (state: string) => void;

let module: unknown;
const listeners = new Set<Listener>();

/** What `TurboModuleRegistry` gives from now on. */
export function setModule(made: unknown): void {
  module = made;
}

export const TurboModuleRegistry = {
  getEnforcing(): unknown {
    // A test's module is not there yet when the facade is imported.
    const get = (_: object, name: PropertyKey) => {
      const found: unknown = Reflect.get(module as object, name);
      return typeof found === 'function' ? found.bind(module) : found;
    };
    return new Proxy({}, { get });
  },
};

export const AppState = {
  currentState: 'active',
  addEventListener(_: 'change', listener: Listener) {
    listeners.add(listener);
    return { remove: () => void listeners.delete(listener) };
  },
};

/** The app goes to the background, or comes back. */
export function moveApp(state: string): void {
  AppState.currentState = state;
  listeners.forEach((listener) => listener(state));
}

type Inside = { children?: ReactNode; style?: object };

export const Text = ({ children }: Inside) => children;
export const View = ({ children }: Inside) => children;
export const Button = (_: { title: string; onPress: () => void }) => null;
export const FlatList = <Item>({ data, renderItem }: { data: Item[]; renderItem: (row: { item: Item }) => ReactElement }) =>
  data.map((item, key) => createElement(Fragment, { key }, renderItem({ item })));
