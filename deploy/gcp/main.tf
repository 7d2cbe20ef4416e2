# One machine with Docker, one Postgres, two buckets, one dataset. docs/production.md says how to get there.

locals {
  apis = toset([
    "bigquery.googleapis.com",
    "cloudresourcemanager.googleapis.com", # Terraform asks it for the project
    "compute.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com", # the deployment's identity becomes a service account's
    "iap.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com", # the database's private address
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
    "sts.googleapis.com", # takes GitHub's word for who deploys
  ])
}

resource "google_project_service" "api" {
  for_each = local.apis

  service            = each.key
  disable_on_destroy = false # others in the project may use it
}

# What the machine may do, and nothing of it in the whole project but jobs of BigQuery, which belong to a project.
resource "google_service_account" "taxi" {
  account_id   = "taxi-vm"
  display_name = "taxi-assets: the machine"

  depends_on = [google_project_service.api]
}

# Reads and writes the trip files, and looks whether the bucket is there and where.
resource "google_storage_bucket_iam_member" "files" {
  for_each = toset(["roles/storage.objectUser", "roles/storage.legacyBucketReader"])

  bucket = google_storage_bucket.files.name
  role   = each.key
  member = google_service_account.taxi.member
}

# Writes what the runs print, and shows it in the UI.
resource "google_storage_bucket_iam_member" "logs" {
  bucket = google_storage_bucket.logs.name
  role   = "roles/storage.objectUser"
  member = google_service_account.taxi.member
}

# Makes and fills the tables of the one dataset.
resource "google_bigquery_dataset_iam_member" "trips" {
  dataset_id = google_bigquery_dataset.trips.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.taxi.member
}

# Runs statements.
resource "google_project_iam_member" "bigquery_jobs" {
  project = var.project_id
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.taxi.member
}

# The trip files, in the names that taxi gives them.
resource "google_storage_bucket" "files" {
  name                        = "${var.project_id}-taxi-files"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  soft_delete_policy {
    retention_duration_seconds = 0 # a file can be sent again: none is kept and billed
  }

  lifecycle_rule { # the parts of uploads that were never finished
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.api]
}

# What the runs print.
resource "google_storage_bucket" "logs" {
  name                        = "${var.project_id}-taxi-logs"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = var.log_days
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_bigquery_dataset" "trips" {
  dataset_id  = "trips"
  location    = var.region
  description = "New York's taxi trips, month by month."

  depends_on = [google_project_service.api]
}
