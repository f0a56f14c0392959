import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";

import { type Browser, type Page, launch } from "puppeteer-core";

import { serve } from "../server.js";

// Run from the package's folder, as `make test-page` does.
const FOLDER = "build/page";
const CHROMIUM = [process.env["CHROMIUM"], "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  (path) => path !== undefined && existsSync(path),
);
const TYPES: Record<string, string> = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript" };

const skip = CHROMIUM === undefined ? "no chromium was found; CHROMIUM may hold its path" : false;
const closing: (() => unknown)[] = [];
const complaints: string[] = [];
let page: Page;
let rewards: string;

before(async () => {
  if (CHROMIUM === undefined) {
    return;
  }
  rewards = process.env["RM_GRPC_HTTP"] ?? (await ownRewards());
  const files = await serveFiles();
  closing.push(() => files.close());
  const browser: Browser = await launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  closing.push(() => browser.close());
  page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  await page.setViewport({ width: 900, height: 1150, deviceScaleFactor: 1 });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await page.goto(`http://127.0.0.1:${(files.address() as AddressInfo).port}/index.html`);
});

after(async () => {
  for (const close of closing.reverse()) {
    await close();
  }
});

test("answers are scored, the best is marked, and an error is typed", { skip }, async () => {
  await fill("#url", `http://${rewards}`);
  await page.click("#server button");
  await page.waitForSelector("#model:not(:disabled)");
  await fill("#answers li:nth-child(3) textarea", "<start_of_turn>user");
  await page.click("#score");
  await page.waitForSelector("#score:not(:disabled)");
  await page.screenshot({ path: "build/page.png" });
  const outcomes = await page.$$eval("#answers .outcome", (all) =>
    all.map((one) => `${one.getAttribute("data-state")} ${one.textContent?.replace(/\s+/g, " ").trim()}`),
  );
  assert.equal(outcomes.filter((outcome) => /^(best|scored) -?\d+\.\d{3}/.test(outcome)).length, 2, outcomes.join("; "));
  assert.match(outcomes[2] ?? "", /^failed INVALID_ARGUMENT, FOREIGN_CHAT_MARKERS /);
  assert.equal(await textOf("#progress"), "3 of 3 answers have a result");
  assert.deepEqual(complaints, []);
});

test("answers can be added and taken away", { skip }, async () => {
  await page.click("#add-answer");
  assert.equal(await page.$eval("#answers li:nth-child(4) textarea", (area) => area === document.activeElement), true);
  await page.click("#answers li:nth-child(4) .remove");
  assert.equal((await page.$$("#answers li")).length, 3);
});

test("every field has a name for those who cannot see it", { skip }, async () => {
  const nameless = await page.$$eval("input, select, textarea, button", (all) =>
    all
      .filter((one) => !("labels" in one && one.labels?.length) && !one.getAttribute("aria-label") && !one.textContent?.trim())
      .map(({ outerHTML }) => outerHTML),
  );
  assert.deepEqual(nameless, []);
});

test("a server that is not there is told, typed", { skip }, async () => {
  await fill("#url", "http://127.0.0.1:1");
  await page.click("#server button");
  await page.waitForSelector("#server-error:not([hidden])");
  assert.match(await textOf("#server-error"), /^UNAVAILABLE http:\/\/127\.0\.0\.1:1: /);
  assert.notEqual(await page.$("#score:disabled"), null);
});

async function ownRewards(): Promise<string> {
  const server = await serve("connect");
  closing.push(() => server.close());
  return server.address;
}

async function serveFiles(): Promise<Server> {
  const server = createServer((request, response) => {
    const name = (request.url ?? "").replace(/^\//, "");
    readFile(`${FOLDER}/${name}`).then(
      (body) => response.writeHead(200, { "content-type": TYPES[name.split(".").at(-1) ?? ""] }).end(body),
      () => response.writeHead(404).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function fill(selector: string, text: string): Promise<void> {
  await page.$eval(selector, (field, value) => ((field as HTMLInputElement).value = value), text);
}

function textOf(selector: string): Promise<string> {
  return page.$eval(selector, (element) => element.textContent ?? "");
}
