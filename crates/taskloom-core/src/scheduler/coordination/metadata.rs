//! A small tree of plain data that clients share.

use std::collections::BTreeMap;
use taskloom_proto::Value;
use taskloom_proto::wire::Wire;
use taskloom_types::Key;

/// A map, unless it has a value of its own.
#[derive(Debug, Default)]
struct Node {
    leaf: Option<Value>,
    branch: Branch,
}

/// Entries by their encoded keys.
type Branch = BTreeMap<Vec<u8>, (Value, Node)>;

#[derive(Debug, Default)]
pub struct Metadata {
    root: Branch,
}

fn encoded(key: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    bytes
}

impl Node {
    fn of(value: Value) -> Self {
        let Value::Map(entries) = value else {
            return Self { leaf: Some(value), branch: Branch::new() };
        };
        let entry = |(key, value): (Value, Value)| (encoded(&key), (key, Self::of(value)));
        Self { leaf: None, branch: entries.into_iter().map(entry).collect() }
    }

    fn value(&self) -> Value {
        self.leaf.clone().unwrap_or_else(|| as_map(&self.branch))
    }
}

fn as_map(branch: &Branch) -> Value {
    Value::Map(branch.values().map(|(key, node)| (key.clone(), node.value())).collect())
}

/// How deep maps and lists nest.
fn depth(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => {
            1 + entries.iter().map(|(k, v)| depth(k).max(depth(v))).max().unwrap_or(0)
        }
        _ => 0,
    }
}

impl Metadata {
    /// Sets the value at a path; maps on the way are made, and replace what is no map.
    ///
    /// # Errors
    /// The path is empty, or value and path nest too deep.
    pub fn set(&mut self, path: Vec<Value>, value: Value) -> Result<(), String> {
        // An answer that holds the whole tree must not be too deep to be read.
        let deepest = path.iter().map(depth).max().unwrap_or(0).max(depth(&value));
        if path.len() + deepest >= Value::MAX_DEPTH {
            return Err(format!("metadata nest at most {} levels deep", Value::MAX_DEPTH - 1));
        }
        let mut path = path;
        let Some(last) = path.pop() else { return Err("the path of metadata is empty".into()) };
        let mut branch = &mut self.root;
        for key in path {
            let (_, node) = branch.entry(encoded(&key)).or_insert_with(|| (key, Node::default()));
            node.leaf = None;
            branch = &mut node.branch;
        }
        branch.insert(encoded(&last), (last, Node::of(value)));
        Ok(())
    }

    /// The value at a path; an empty path is everything.
    pub fn get(&self, path: &[Value]) -> Option<Value> {
        let mut branch = &self.root;
        for (position, key) in path.iter().enumerate() {
            let (_, node) = branch.get(&encoded(key))?;
            if let Some(value) = &node.leaf {
                return inside(value, &path[position + 1..]);
            }
            branch = &node.branch;
        }
        Some(as_map(branch))
    }

    /// A task is forgotten, and with it what was noted under its key.
    pub fn forget_task(&mut self, key: &Key) {
        if self.root.is_empty() {
            return;
        }
        let text = key.as_bytes().strip_prefix(b"s").and_then(|t| std::str::from_utf8(t).ok());
        let key = text.map_or_else(|| Value::Key(key.clone()), |text| Value::Text(text.into()));
        self.root.remove(&encoded(&key));
    }
}

/// The item of a list at a path of positions.
fn inside(value: &Value, path: &[Value]) -> Option<Value> {
    let mut value = value;
    for key in path {
        let (Value::List(items), Value::Int(position)) = (value, key) else { return None };
        let position = if *position < 0 { *position + items.len() as i64 } else { *position };
        value = items.get(usize::try_from(position).ok()?)?;
    }
    Some(value.clone())
}
