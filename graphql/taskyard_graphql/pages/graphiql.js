/* global React, ReactDOM, GraphiQL, graphqlWs */
"use strict";

// The token lives in this tab's sessionStorage. A link may bring one in its fragment, which browsers never send
// to a server; it is taken out of the address at once.
const KEY = "taskyard.token";
const input = document.getElementById("token");
const root = ReactDOM.createRoot(document.getElementById("graphiql"));

const token = () => sessionStorage.getItem(KEY) ?? "";
const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

const address = new URL(location.pathname, location.href);
const fetcher = GraphiQL.createFetcher({
  url: address.href,
  fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...authorization() } }),
  wsClient: graphqlWs.createClient({
    url: address.href.replace(/^http/, "ws"),
    connectionParams: authorization,
    retryAttempts: 0, // who tries an API out wants to see that the line broke
  }),
  enableIncrementalDelivery: false,
});

function keep(value) {
  sessionStorage.setItem(KEY, value.trim().replace(/^Bearer\s+/i, ""));
  show();
}

function takeFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  keep(found);
}

// A new key makes GraphiQL start again, and so fetch the schema with the new token.
function show() {
  input.value = token();
  root.render(React.createElement(GraphiQL, { key: token(), fetcher }));
}

input.addEventListener("change", () => keep(input.value));
window.addEventListener("hashchange", takeFromAddress);
show();
takeFromAddress();
