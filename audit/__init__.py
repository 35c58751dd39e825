"""Programs that look for wrong answers where no test looks: over many generated and real models. Outside CI."""
