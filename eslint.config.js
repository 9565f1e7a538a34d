import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/.venv*/", "build/", "dist/", "runs/", "site/"] },
  js.configs.recommended,
  {
    rules: {
      "consistent-return": "off", // `return say(…)` is how a handler gives up
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "no-else-return": "error",
      "no-implicit-globals": "error",
      "no-shadow": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-use-before-define": ["error", { functions: false, variables: false }],
      "no-useless-rename": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
  { files: ["betavae/ui/static/**/*.js"], languageOptions: { globals: globals.browser } },
  { files: ["tests/js/**/*.mjs", "eslint.config.js"], languageOptions: { globals: globals.node } },
];
