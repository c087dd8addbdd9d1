"""Physics of one memory device. µS and seconds; knows no layer, config or model."""
