"""What this host lends to goals: ports, devices, routes, probes, secrets."""
