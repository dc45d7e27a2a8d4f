"""What has it learnt? Every measurement of one model, one behind another."""
