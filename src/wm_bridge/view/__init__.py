"""The browser view: what is shown of a running graph (values), and the page that shows it (viser)."""
