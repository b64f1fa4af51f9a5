// What a check can do wrong. Run with --broken, to see that the table comes out all the same.

export const checks = [
  { name: 'passes', run: async () => {} },
  {
    name: 'throws',
    run: async () => {
      throw new Error('thrown on purpose');
    },
  },
  { name: 'crashes', run: async () => process.kill(process.pid, 'SIGSEGV') },
  {
    name: 'hangs',
    run: async () => {
      for (;;);
    },
  },
  { name: 'ends the process', run: async () => process.exit(3) },
  { name: 'comes after all that', run: async () => {} },
];
