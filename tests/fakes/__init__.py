"""What tests run against: models made on the spot, real engines on them, scripted engines, hubs on loopback, stores."""
