# Both databases, the trips and Dagster's history, on one server. The roles that use them are made by the machine, with
# deploy/postgres/roles.sql: what Cloud SQL's own interface makes may do everything in every database.

resource "google_sql_database_instance" "taxi" {
  name                = "taxi"
  region              = var.region
  database_version    = "POSTGRES_18"
  deletion_protection = var.deletion_protection

  settings {
    tier                        = var.database_tier
    edition                     = "ENTERPRISE" # left out, versions from 16 on take Enterprise Plus, which costs more
    availability_type           = var.database_high_availability ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = 50
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection # against the console and gcloud too

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.taxi.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "07:00" # UTC: night in New York
      location                       = var.region
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 14
      }
    }

    maintenance_window {
      day          = 7
      hour         = 8
      update_track = "stable"
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "database" {
  for_each = toset(["ny_taxi", "dagster"])

  name            = each.key
  instance        = google_sql_database_instance.taxi.name
  deletion_policy = "ABANDON" # it goes with the server, and has an owner by then that may not be asked
}

# Makes the roles, and does nothing else.
resource "google_sql_user" "admin" {
  name                = "taxi_admin"
  instance            = google_sql_database_instance.taxi.name
  password_wo         = ephemeral.google_secret_manager_secret_version.admin.secret_data
  password_wo_version = var.password_version
  deletion_policy     = "ABANDON" # Postgres drops no role that others hang on; it goes with the server
}
