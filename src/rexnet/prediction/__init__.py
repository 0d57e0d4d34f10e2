"""What a trained network says of images: `rexnet predict`."""
