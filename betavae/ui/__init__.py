"""The web app's tabs: one module each, with the page's own HTML, CSS and JavaScript beside them. Only app.py imports this."""
