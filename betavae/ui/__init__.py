"""The web app's tabs: one module each, the page's HTML, CSS and JavaScript beside them. Only app.py imports this."""
