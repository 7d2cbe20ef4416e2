terraform {
  required_version = ">= 1.11, < 2.0" # passwords that no state keeps came with 1.11

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "6.50.0" # the version whose schema the arguments were checked against
    }
    random = {
      source  = "hashicorp/random"
      version = "3.7.2" # random passwords that no state keeps came with 3.7
    }
  }

  # The bucket is named when it is initialized, docs/production.md: the state belongs to nobody's laptop.
  backend "gcs" {
    prefix = "taxi"
  }
}

provider "google" {
  project = var.project_id
  region  = var.region
  zone    = var.zone
}
