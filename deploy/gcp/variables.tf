# What has no default must be given, in terraform.tfvars: terraform.tfvars.example lists it.

variable "project_id" {
  description = "The project of Google Cloud that all of this is made in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project's id is 6 to 30 small letters, digits and dashes, and begins with a letter: `gcloud projects list`."
  }
}

variable "region" {
  description = "Where the machine, the database, the buckets and the dataset are."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region is written like us-central1: `gcloud compute regions list`."
  }
}

variable "zone" {
  description = "The zone of the machine, in the region."
  type        = string
  default     = "us-central1-a"

  validation {
    condition     = startswith(var.zone, "${var.region}-")
    error_message = "The zone must be in the region: us-central1-a in us-central1."
  }
}

variable "site" {
  description = "The domain name under which the UI is served; its A record must point to the output `address`."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.site))
    error_message = "The site is a domain name such as taxi.example.org, without https:// and without a path."
  }
}

variable "login_user" {
  description = "The name that people log in with; the password is in the secret `taxi-login-password`."
  type        = string
  default     = "taxi"

  validation {
    condition     = can(regex("^[a-z0-9_.-]+$", var.login_user))
    error_message = "The login is small letters, digits and _ . - only."
  }
}

variable "image" {
  description = "The image that the machine starts with, by tag or digest; later ones come by `taxi-deploy`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9./_-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "The image needs a tag other than latest, or a digest: ghcr.io/OWNER/taxi-assets:v1.0.0."
  }
}

variable "repository" {
  description = "The public git repository that the compose files are fetched from."
  type        = string

  validation {
    condition     = can(regex("^https://[^@ ]+$", var.repository))
    error_message = "The repository is an https:// address without a user in it."
  }
}

variable "git_ref" {
  description = "The tag or commit of the compose files that the machine starts with; it should fit the image."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*$", var.git_ref))
    error_message = "The reference is a tag, a branch or a commit."
  }
}

variable "machine_type" {
  description = "Of the machine: runs are processes that keep one core busy each, and dagster.yaml allows 4 of them."
  type        = string
  default     = "e2-standard-4"
}

variable "disk_gb" {
  description = "Of the machine's disk: the system, images, and raw files, some 30 GB for all of 2019-01 to 2021-07."
  type        = number
  default     = 80

  validation {
    condition     = var.disk_gb >= 40
    error_message = "The disk needs 40 GB at least."
  }
}

variable "database_tier" {
  description = "The machine of Cloud SQL: db-custom-CORES-MEGABYTES."
  type        = string
  default     = "db-custom-2-7680"
}

variable "database_high_availability" {
  description = "Whether a second server in another zone takes over when the first fails; it costs as much again."
  type        = bool
  default     = false
}

variable "password_version" {
  description = "Raise it by one to have all passwords made anew; then run `sudo taxi-deploy` on the machine."
  type        = number
  default     = 1

  validation {
    condition     = var.password_version >= 1 && floor(var.password_version) == var.password_version
    error_message = "The version is a whole number from 1 on."
  }
}

variable "log_days" {
  description = "After how many days the logs of the runs are deleted."
  type        = number
  default     = 90

  validation {
    condition     = var.log_days >= 1
    error_message = "Logs are kept for a day at least."
  }
}

variable "deletion_protection" {
  description = "Whether the database and the machine refuse to be deleted."
  type        = bool
  default     = true
}

variable "github_repository" {
  description = "OWNER/NAME of the repository on GitHub whose main branch may deploy; empty: none may."
  type        = string
  default     = ""

  validation {
    condition     = var.github_repository == "" || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "The repository on GitHub is written OWNER/NAME."
  }
}
