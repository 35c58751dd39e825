// node browser_driver.js MODULES CHROMIUM: one browser, and one visit for each line of JSON on standard input.
// Prints, as a line of JSON, what tests/support/browser.py calls a Visit, or {failure}.
'use strict';

const path = require('node:path');
const readline = require('node:readline');

const [modules, executablePath] = process.argv.slice(2);
const {chromium} = require(path.join(modules, 'playwright-core'));
const axe = require(path.join(modules, 'axe-core')).source;
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const STEP_MS = 60000;
// Swagger UI skips a level of headings, and has a part outside its landmark.
const IGNORED_RULES = new Set(['heading-order', 'region']);

// What a step does: with the page, or with the frame that the selector `frame` of the step finds. What it returns is a
// result of the visit. A script is an expression of JavaScript.
const ACTIONS = {
  goto: (page, {url}) => page.goto(url),
  wait: (page, {selector, script}) => (selector ? page.waitForSelector(selector) : holds(page, script)),
  idle: (page) => page.waitForLoadState('networkidle'),
  click: (page, {selector}) => page.click(selector),
  fill: (page, {selector, text}) => page.fill(selector, text),
  select: (page, {selector, value}) => page.selectOption(selector, value),
  upload: (page, {selector, file}) => page.setInputFiles(selector, file),
  press: (page, {key, selector = ':focus'}) => page.press(selector, key),
  read: (page, {script}) => page.evaluate(script),
  async look(page, {width, height, dark = false}) {
    await page.emulateMedia({colorScheme: dark ? 'dark' : 'light'});
    await page.setViewportSize({width, height});
  },
  screenshot: (page, {file, whole = true}) => page.screenshot({path: file, fullPage: whole}),
  axe: violations,
};
const RETURNS = new Set(['read', 'axe', 'select']);

/** Wait until a script returns what is true. page.waitForFunction would call eval, which our pages forbid. */
async function holds(page, script) {
  const end = Date.now() + STEP_MS;
  while (!(await page.evaluate(script))) {
    if (Date.now() > end) throw new Error(`this never held: ${script}`);
    await page.waitForTimeout(20);
  }
}

/** Return what axe-core finds: [{rule, impact, nodes: the HTML of each}]. */
async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const {violations: all} = await globalThis.axe.run({resultTypes: ['violations']});
    return all.map(({id, impact, nodes}) => (
      {rule: id, impact, nodes: nodes.map(({html, failureSummary}) => `${html}: ${failureSummary}`)}));
  });
  return found.filter(({rule}) => !IGNORED_RULES.has(rule));
}

async function visit(browser, {url, steps, width, height, dark, replaced, allowed, actions}) {
  const known = actions ? require(actions) : ACTIONS;
  const servers = new Set([new URL(url).host, ...allowed]);
  const context = await browser.newContext({
    viewport: {width, height}, colorScheme: dark ? 'dark' : 'light', serviceWorkers: 'block',
  });
  const complaints = [];
  const asked = [];
  const refused = [];
  const isRefused = (text) => /^(http|ws)s?:$/.test(new URL(text).protocol) && !servers.has(new URL(text).host);
  try {
    await context.route((target) => isRefused(target.href), (route) => route.abort('blockedbyclient'));
    await context.routeWebSocket((target) => isRefused(target.href), (socket) => {
      refused.push(socket.url());
      socket.close();
    });
    context.on('request', (request) => {
      asked.push(request.url());
      if (isRefused(request.url())) refused.push(request.url());
    });
    const page = await context.newPage();
    page.setDefaultTimeout(STEP_MS);
    page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
    page.on('pageerror', (error) => complaints.push(String(error)));
    for (const [file, body] of Object.entries(replaced)) await page.route(`**/${file}`, (route) => route.fulfill({body}));
    await page.goto(url);
    const results = [];
    for (const step of steps) {
      const target = step.frame ? await (await page.waitForSelector(step.frame)).contentFrame() : page;
      const result = await known[step.do](target, step);
      results.push(known !== ACTIONS || RETURNS.has(step.do) ? result : null);
    }
    return {results, complaints, asked, refused};
  } catch (error) {
    return {failure: String(error.stack || error), complaints, refused};
  } finally {
    await context.close();
  }
}

(async () => {
  const browser = await chromium.launch({executablePath, args: FLAGS});
  for await (const line of readline.createInterface({input: process.stdin})) {
    process.stdout.write(`${JSON.stringify(await visit(browser, JSON.parse(line)))}\n`);
  }
  await browser.close();
})();
