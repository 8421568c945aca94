"""What figures are made of: looks, panels, layout and drawing."""
