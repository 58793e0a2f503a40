/** The real Android module on the JVM, behind a pipe (tests/jvm/Bridge.kt), as JavaScript sees it. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { NativeEvent, NativeLogLine } from '../src/NativeDelta';

/** As JSON, but for the numbers that JSON lacks and React Native's bridge carries. */
function json(value: unknown): string {
  const named = (_: string, one: unknown) => (typeof one === 'number' && !Number.isFinite(one) ? `number ${one}` : one);
  return JSON.stringify(value, named).replace(/"number (-?\w+)"/g, '$1');
}

type Answer = { resolve: (value: unknown) => void; reject: (error: unknown) => void };

export class Bridge {
  private readonly child;
  private readonly waiting = new Map<number, Answer>();
  private readonly listeners = new Set<(event: NativeEvent) => void>();
  private readonly logs = new Set<(line: NativeLogLine) => void>();
  private number = 0;
  private readonly ended: Promise<void>;

  /** `folder` is the app's private one. */
  constructor(folder: string) {
    const command: unknown = JSON.parse(process.env.DELTA_BRIDGE ?? 'null');
    if (!Array.isArray(command)) throw new Error('DELTA_BRIDGE is set by cargo xtask test --only binding-typescript');
    const [program, ...words] = command as string[];
    this.child = spawn(program ?? '', [...words, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.ended = new Promise((done) => this.child.once('exit', () => done()));
    this.child.once('exit', () => this.waiting.forEach(({ reject }) => reject(new Error('the bridge ended'))));
    createInterface(this.child.stdout).on('line', (line) => this.hear(JSON.parse(line)));
  }

  /** What `TurboModuleRegistry` gives. */
  get module(): object {
    const emitter = <Told>(listeners: Set<(told: Told) => void>) => (listener: (told: Told) => void) => {
      listeners.add(listener);
      return { remove: () => void listeners.delete(listener) };
    };
    const emitters: Record<string, unknown> = { onEvent: emitter(this.listeners), onLog: emitter(this.logs) };
    const get = (_: object, name: PropertyKey) =>
      emitters[String(name)] ?? ((...passed: unknown[]) => this.call(String(name), passed));
    return new Proxy({}, { get });
  }

  /** What a reload does: the module goes, and a new one is there. */
  async reload(): Promise<void> {
    await this.call('invalidate', []);
  }

  async close(): Promise<void> {
    this.child.stdin.end();
    await this.ended;
  }

  private call(name: string, passed: unknown[]): Promise<unknown> {
    this.number += 1;
    const number = this.number;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.child.stdin.write(`${json([number, name, passed])}\n`);
    });
  }

  private hear([number, well, value]: [number, boolean, unknown]): void {
    if (number === 0) {
      if (well) this.listeners.forEach((listener) => listener(value as NativeEvent));
      else this.logs.forEach((log) => log(value as NativeLogLine));
      return;
    }
    const answer = this.waiting.get(number);
    this.waiting.delete(number);
    if (well) answer?.resolve(value);
    else answer?.reject(Object.assign(new Error(), value));
  }
}
