//! How do label trees and linear rankers learn and search?
