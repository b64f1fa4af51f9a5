// The Chromium that tests, benchmarks and the documents' pictures open pages in.
const { existsSync } = require('node:fs');

/** The program that is there, if any; the environment variable `CHROMIUM_PATH` names another. */
exports.CHROMIUM = [
  process.env.CHROMIUM_PATH,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => path && existsSync(path));
