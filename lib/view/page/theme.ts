/** Whether the page is dark: as chosen with its button, else as the system says. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

// Drawings ask for these by name and have to get a colour: of a property that isn't registered as one they would get what
// the style sheet says, `light-dark(…)`.
for (const name of ['--accent', '--mark', '--muted', '--nan']) {
  CSS.registerProperty?.({ name, syntax: '<color>', inherits: true, initialValue: 'black' });
}
