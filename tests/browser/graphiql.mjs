// Opens the start page and GraphiQL as a person would; prints what was seen as JSON.
import { chromium } from "playwright-core";

const { chromium: executablePath, base, token, screenshot, colorScheme } = JSON.parse(process.argv[2]);

const browser = await chromium.launch({
  executablePath, // with a new, empty profile
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme });
  const seen = { requests: [], violations: [], errors: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("websocket", (socket) => seen.requests.push(socket.url()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  await page.exposeFunction("reportViolation", (text) => seen.violations.push(text));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
  });

  await page.goto(base);
  if (screenshot) await page.screenshot({ path: screenshot.replace(".png", "-start.png") });
  await page.getByRole("link", { name: "GraphiQL" }).click();
  await page.locator(".graphiql-container").waitFor();
  await page.goto(`${base}/graphql#token=${token}`); // only the fragment changes: the open page takes it
  await page.waitForFunction(() => location.hash === "");
  seen.tokenBox = await page.getByLabel("Token").inputValue();

  const answerTo = async (name, operation, expected) => {
    await page.locator(".graphiql-query-editor .CodeMirror").click();
    await page.keyboard.press("Control+A");
    await page.keyboard.insertText(operation);
    await page.getByRole("tab", { name }).waitFor(); // it has parsed it
    await page.keyboard.press("Control+Enter");
    const result = page.locator(".result-window", { hasText: expected });
    await result.waitFor();
    return result.innerText();
  };
  seen.subscription = await answerTo("Count", "subscription Count { count(to: 3) }", "3 for");
  seen.query = await answerTo("Caller", "query Caller { caller }", "caller");

  await page.getByLabel("Show Documentation Explorer").click();
  await page.locator(".graphiql-doc-explorer-content").getByRole("link", { name: "Query" }).click();
  await page.locator(".graphiql-doc-explorer-content").getByText("caller").waitFor();
  if (screenshot) await page.screenshot({ path: screenshot });
  await page.getByLabel("Open settings dialog").click(); // dialogs bring styles of their own
  await page.getByRole("dialog").waitFor();
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
