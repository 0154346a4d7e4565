// viser draws its scene at every refresh of the screen until 250 ms after the last message about it: all the time while a robot
// moves. With this it is drawn when a message came, and once more when no other follows (a texture may have been late).
// Where viser is no longer made that way nothing happens; a test in the browser says so.
{
  let last;
  const draw = () => window.__viserMutable?.scene?.__r3f?.root.getState().invalidate();
  const drawOnce = () => { draw(); clearTimeout(last); last = setTimeout(draw, 250); };
  const replace = () => { if (window.__viserMutable?.scene?.__r3f) window.__viserMutable.requestRender = drawOnce; };
  setInterval(replace, 200); // viser sets its own whenever it builds the scene anew
}
