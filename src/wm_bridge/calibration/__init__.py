"""Where a camera is and how it sees, found from pictures of a ChArUco board."""
