"""Networks whose weights live on pulsed devices and learn there."""
