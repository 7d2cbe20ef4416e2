# Debian rather than Container-Optimized OS: compose is a package there, which Debian's security updates keep current;
# COS has neither compose nor a package manager.

resource "google_compute_instance" "taxi" {
  name                      = "taxi"
  zone                      = var.zone
  machine_type              = var.machine_type
  deletion_protection       = var.deletion_protection
  allow_stopping_for_update = true

  boot_disk {
    initialize_params {
      image = "debian-cloud/debian-13"
      size  = var.disk_gb
      type  = "pd-balanced"
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.taxi.id

    access_config {
      nat_ip = google_compute_address.site.address
    }
  }

  service_account {
    email  = google_service_account.taxi.email
    scopes = ["cloud-platform"] # what it may do is said by its roles
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  # No secrets: everybody who may look at the machine reads these. startup.sh and taxi-deploy take them from here.
  metadata = {
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
    startup-script         = file("${path.module}/startup.sh")
    taxi-repository        = var.repository
    taxi-ref               = var.git_ref
    taxi-image             = var.image
    taxi-site              = var.site
    taxi-login-user        = var.login_user
    taxi-database          = google_sql_database_instance.taxi.private_ip_address
    taxi-project           = var.project_id
    taxi-location          = var.region
    taxi-files-bucket      = google_storage_bucket.files.name
    taxi-logs-bucket       = google_storage_bucket.logs.name
    taxi-dataset           = google_bigquery_dataset.trips.dataset_id
  }

  lifecycle {
    ignore_changes = [boot_disk[0].initialize_params[0].image] # a newer Debian is no reason for another machine
  }

  depends_on = [
    google_secret_manager_secret_iam_member.taxi,
    google_secret_manager_secret_version.password,
    google_sql_database.database,
    google_sql_user.admin,
  ]
}
