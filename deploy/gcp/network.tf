# A network of its own: the default one of a project lets everybody in by SSH.

resource "google_compute_network" "taxi" {
  name                    = "taxi"
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork" "taxi" {
  name                     = "taxi"
  region                   = var.region
  network                  = google_compute_network.taxi.id
  ip_cidr_range            = "10.10.0.0/24"
  private_ip_google_access = true
}

resource "google_compute_address" "site" {
  name   = "taxi-site"
  region = var.region

  depends_on = [google_project_service.api]
}

# HTTPS, and HTTP for the challenge of the certificate and the redirect to HTTPS. Nothing else is open to the world.
resource "google_compute_firewall" "web" {
  name                    = "taxi-web"
  network                 = google_compute_network.taxi.id
  direction               = "INGRESS"
  source_ranges           = ["0.0.0.0/0"]
  target_service_accounts = [google_service_account.taxi.email]

  allow {
    protocol = "tcp"
    ports    = ["80", "443"]
  }
}

# SSH from Google's Identity-Aware Proxy alone, which lets in whom IAM lets in.
# https://docs.cloud.google.com/iap/docs/using-tcp-forwarding
resource "google_compute_firewall" "ssh" {
  name                    = "taxi-ssh-iap"
  network                 = google_compute_network.taxi.id
  direction               = "INGRESS"
  source_ranges           = ["35.235.240.0/20"]
  target_service_accounts = [google_service_account.taxi.email]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

# The addresses that Cloud SQL gets in this network.
resource "google_compute_global_address" "services" {
  name          = "taxi-services"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 24
  network       = google_compute_network.taxi.id
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.taxi.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
  deletion_policy         = "ABANDON" # Google holds on to it for days after the last server is gone
}
