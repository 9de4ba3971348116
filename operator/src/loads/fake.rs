//! Servers that answer as a test likes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{LoadError, Loads, Target};
use crate::seen::Told;

/// Keeps what it is told to say, and writes down what it is asked.
#[derive(Default)]
pub(crate) struct FakeLoads {
    pub(crate) told: Mutex<HashMap<String, Arc<Told>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Loads for FakeLoads {
    fn last(&self, uid: &str) -> Option<Arc<Told>> {
        self.told.lock().unwrap().get(uid).cloned()
    }

    fn is_asked(&self, _: &str) -> bool {
        true
    }

    async fn drain(&self, target: &Target, seconds: u32) -> Result<(), LoadError> {
        self.asked.lock().unwrap().push(format!("drain {} {seconds}", target.pod));
        Ok(())
    }

    async fn undrain(&self, target: &Target) -> Result<(), LoadError> {
        self.asked.lock().unwrap().push(format!("undrain {}", target.pod));
        Ok(())
    }

    fn learn_token(&self, _: &str, _: &str, _: &str) {}
}
