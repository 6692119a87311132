// Suggestions under the search field while typing; without this file the form works as well.
// The pattern is the WAI-ARIA combobox with a list box: the focus stays in the field.
"use strict";

(() => {
  const PAUSE = 120; // milliseconds without a key before the server is asked
  const LIMIT = 8;

  const field = document.getElementById("query");
  const root = field.form.action; // of the service, which may be under a path of the shop
  const carried = [...field.form.querySelectorAll('[name="basket"]')]
    .map(({ value }) => `&basket=${encodeURIComponent(value)}`)
    .join("");
  const list = document.createElement("ul");
  const status = document.createElement("p");
  let addresses = [];
  let active = -1;
  let timer;
  let request;

  list.id = "suggestions";
  list.className = "suggestions";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Products");
  list.hidden = true;
  status.className = "unseen";
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");
  field.parentElement.append(list, status);
  field.setAttribute("role", "combobox");
  field.setAttribute("aria-autocomplete", "list");
  field.setAttribute("aria-controls", list.id);
  field.setAttribute("aria-expanded", "false");

  function close() {
    clearTimeout(timer);
    request?.abort();
    list.hidden = true;
    list.replaceChildren();
    status.textContent = "";
    addresses = [];
    activate(-1);
    field.setAttribute("aria-expanded", "false");
  }

  function activate(index) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = index;
    const option = list.children[active];
    if (option) {
      option.setAttribute("aria-selected", "true");
      option.scrollIntoView({ block: "nearest" });
      field.setAttribute("aria-activedescendant", option.id);
    } else {
      field.removeAttribute("aria-activedescendant");
    }
  }

  function text(element, className, content) {
    const part = document.createElement(element);
    part.className = className;
    part.dir = "auto";
    part.textContent = content;
    return part;
  }

  function optionOf(product, index) {
    const name = (product.product_name ?? "").trim();
    const option = document.createElement("li");
    option.id = `suggestion-${index}`;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    option.append(text("span", "name", name || product.product_id.trim() || "Product without a name"));
    if (name) option.append(" ", text("code", "", product.product_id));
    if (product.category_code) option.append(" ", text("span", "category", product.category_code));
    return option;
  }

  function show(products) {
    if (!products.length) {
      close();
      status.textContent = "No suggestions";
      return;
    }
    addresses = products.map(
      ({ product_id }) => `${root}product?id=${encodeURIComponent(product_id)}${carried}`,
    );
    list.replaceChildren(...products.map(optionOf));
    list.hidden = false;
    activate(-1);
    field.setAttribute("aria-expanded", "true");
    status.textContent =
      products.length === 1 ? "1 suggestion" : `${products.length} suggestions`;
  }

  async function ask(query) {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    try {
      const parameters = new URLSearchParams({ query, limit: LIMIT });
      const response = await fetch(`${root}v1/products?${parameters}`, { signal });
      const products = response.ok ? (await response.json()).products : [];
      if (!signal.aborted) show(products);
    } catch {
      if (!signal.aborted) close(); // the form still works
    }
  }

  function choose(index) {
    const address = addresses[index];
    close();
    window.location.assign(address);
  }

  field.addEventListener("input", () => {
    clearTimeout(timer);
    request?.abort();
    const query = field.value.trim();
    if (query) timer = setTimeout(ask, PAUSE, query);
    else close();
  });

  field.addEventListener("keydown", (event) => {
    if (list.hidden || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    const count = addresses.length;
    if (event.key === "ArrowDown") activate(active + 1 < count ? active + 1 : -1);
    else if (event.key === "ArrowUp") activate(active < 0 ? count - 1 : active - 1);
    else if (event.key === "Enter" && active >= 0) choose(active);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });

  field.form.addEventListener("submit", close);
  field.addEventListener("blur", close);
  window.addEventListener("pagehide", close);
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays
  list.addEventListener("click", (event) => {
    const option = event.target.closest("li");
    if (option) choose([...list.children].indexOf(option));
  });
})();
