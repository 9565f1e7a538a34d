"""The web app: tabs/ has a module for each tab, static/ the page's HTML, CSS and JavaScript. Only app.py imports this."""
