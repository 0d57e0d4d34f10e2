"""Where image bytes come from, and how they are decoded."""
