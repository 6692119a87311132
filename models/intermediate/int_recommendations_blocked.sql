{{ config(materialized="ephemeral") }} -- a few rows of a seed

with

blocks as (

    select
        product_id,
        recommended_product_id
    from {{ ref('blocked_recommendations') }}
    where {{ as_of_day() }} between {{ first_day() }} and {{ last_day() }}

),

products as (

    select product_id from {{ ref('stg_products') }}

    union

    select product_id from {{ ref('int_products_keyed') }}

),

blocked as (

    select
        product_id,
        recommended_product_id
    from blocks
    where product_id is not null

    union

    select
        products.product_id,
        blocks.recommended_product_id
    from blocks
    cross join products
    where blocks.product_id is null

)

select * from blocked
