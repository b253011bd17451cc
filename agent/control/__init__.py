"""From desired state to looks: the plan, the queue and the loop."""
