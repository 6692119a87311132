// Draws the API's description; without `validatorUrl: null` Swagger UI would ask another host.
"use strict";

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
const followScheme = () =>
  document.documentElement.classList.toggle("dark-mode", prefersDark.matches);
followScheme();
prefersDark.addEventListener("change", followScheme);

window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
});
