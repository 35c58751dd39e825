"""Programs that search for wrong answers beyond the tests, with many generated and real models. Not part of CI."""
